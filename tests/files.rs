//! Files as they are written: what stays, what is followed, what is refused.
#![cfg(unix)]

use dsconv::file::{keep, read_kept, same, write};
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// A folder of a test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("files").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| name(entry).into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn new_files_have_the_usual_permissions_and_old_ones_keep_theirs() {
    let folder = folder("permissions");
    let [usual, new] = ["usual", "new"].map(|name| folder.join(name));
    fs::write(&usual, "").unwrap();
    write(&new, b"one").unwrap();
    assert_eq!(mode(&new), mode(&usual), "as any other file");
    for wanted in [0o600, 0o640, 0o444, 0o755] {
        fs::set_permissions(&new, fs::Permissions::from_mode(wanted)).unwrap();
        write(&new, format!("{wanted}").as_bytes()).unwrap();
        assert_eq!((mode(&new), fs::read_to_string(&new).unwrap()), (wanted, wanted.to_string()));
    }
    assert_eq!(names(&folder), ["new", "usual"], "nothing is left beside them");
}

#[test]
fn errors_tell_the_path_that_was_asked_for_and_no_other() {
    let path = folder("no-folder").join("missing").join("file");
    let error = write(&path, b"text").unwrap_err().to_string();
    let source = std::error::Error::source(&write(&path, b"text").unwrap_err())
        .map_or_else(String::new, ToString::to_string);
    let told = format!("{error} {source}");
    assert!(told.contains(&*path.to_string_lossy()) && !told.contains(".tmp"), "{told}");
}

#[test]
fn what_a_link_leads_to_is_written() {
    let folder = folder("links");
    fs::create_dir(folder.join("elsewhere")).unwrap();
    let target = folder.join("elsewhere/target");
    symlink("elsewhere/target", folder.join("inner")).unwrap();
    symlink("inner", folder.join("outer")).unwrap();
    // At first the links lead nowhere.
    for text in ["first", "second"] {
        write(&folder.join("outer"), text.as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), text);
        assert_eq!(names(&folder), ["elsewhere", "inner", "outer"]);
        assert!(fs::symlink_metadata(folder.join("outer")).unwrap().is_symlink());
        assert!(fs::symlink_metadata(&target).unwrap().is_file());
    }
    symlink("circle", folder.join("circle")).unwrap();
    assert!(write(&folder.join("circle"), b"").is_err());
}

#[test]
fn devices_and_pipes_are_written_to_and_stay() {
    let folder = folder("streams");
    let pipe_path = folder.join("pipe");
    pipe(&pipe_path);
    let reader = {
        let path = pipe_path.clone();
        std::thread::spawn(move || fs::read_to_string(path).unwrap())
    };
    write(&pipe_path, b"through").unwrap();
    assert_eq!(reader.join().unwrap(), "through");
    assert!(fs::metadata(&pipe_path).unwrap().file_type().is_fifo());
    write(Path::new("/dev/null"), b"nothing").unwrap();
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    assert!(write(Path::new("/dev/full"), b"too much").is_err());

    let socket = folder.join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    for (path, what) in [(&socket, "a socket"), (&folder, "a folder")] {
        let message = write(path, b"no").unwrap_err().to_string();
        assert!(message.contains(what) && message.contains("streams"), "{message}");
    }
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
}

#[test]
fn a_programs_own_files_never_wait_and_never_grow_large() {
    let folder = folder("kept");
    let path = folder.join("pipe");
    pipe(&path);
    for message in [keep(&path, b"no").unwrap_err(), read_kept(&path, 9).unwrap_err()] {
        assert!(message.to_string().contains("a device or a pipe"), "{message}");
    }
    let path = folder.join("file");
    keep(&path, b"123456789").unwrap();
    assert_eq!(read_kept(&path, 9).unwrap(), b"123456789");
    // Sparse: as long as a disk, and nothing of it is read into memory.
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 33).unwrap();
    let message = read_kept(&path, 9).unwrap_err().to_string();
    assert!(message.contains("at most 9 bytes, got 8589934592"), "{message}");
}

#[test]
fn what_killed_writers_left_is_cleaned_and_live_files_stay() {
    let folder = folder("stale");
    let old = SystemTime::now() - Duration::from_secs(2 * 3600);
    let aged = |name: &str, time: SystemTime| {
        let file = fs::File::create(folder.join(name)).unwrap();
        file.set_modified(time).unwrap();
    };
    let live = SystemTime::now() - Duration::from_secs(1800);
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    for (name, time) in [
        (".dsconv-Ab12Cd.tmp", old),
        (".dsconv-zzzzzz.tmp", old),
        (".dsconv-live.tmp", live),
        (".dsconv-tomorrow.tmp", tomorrow),
        (".dsconv-other", old),
        ("mine.tmp", old),
    ] {
        aged(name, time);
    }
    fs::create_dir(folder.join(".dsconv-folder.tmp")).unwrap();
    fs::File::open(folder.join(".dsconv-folder.tmp")).unwrap().set_modified(old).unwrap();
    symlink("mine.tmp", folder.join(".dsconv-link.tmp")).unwrap();
    write(&folder.join("file"), b"new").unwrap();
    let kept = [
        ".dsconv-folder.tmp",
        ".dsconv-link.tmp",
        ".dsconv-live.tmp",
        ".dsconv-other",
        ".dsconv-tomorrow.tmp",
        "file",
        "mine.tmp",
    ];
    assert_eq!(names(&folder), kept);
}

#[test]
fn threads_that_write_one_path_leave_one_of_their_files() {
    let folder = folder("threads");
    let path = folder.join("file");
    for _ in 0..20 {
        std::thread::scope(|scope| {
            for letter in [b'a', b'b', b'c', b'd'] {
                let path = &path;
                scope.spawn(move || write(path, &vec![letter; 100_000]).unwrap());
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() == 100_000 && bytes.iter().all(|&byte| byte == bytes[0]));
    }
    assert_eq!(names(&folder), ["file"]);
}

#[test]
fn files_are_the_same_by_identity() {
    let folder = folder("same");
    let [one, other, link, hard] = ["one", "other", "link", "hard"].map(|name| folder.join(name));
    fs::write(&one, "same").unwrap();
    fs::write(&other, "same").unwrap();
    symlink(&one, &link).unwrap();
    fs::hard_link(&one, &hard).unwrap();
    assert!(same(&one, &link) && same(&one, &hard) && same(&link, &hard));
    assert!(same(&one, &folder.join("../same/one")));
    assert!(!same(&one, &other) && !same(&folder.join("no"), &folder.join("no")));
}
