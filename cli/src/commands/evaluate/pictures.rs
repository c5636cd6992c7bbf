//! The pictures of a folder, and their classes.

use crate::classes::Classes;
use crate::picture;
use anyhow::Context;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A picture and its class, where that is known.
pub(super) type Labelled = (PathBuf, Option<usize>);

/// The pictures of a folder with their classes: those of its folders, by the names that are the network's labels, or
/// numbers from a list or the pictures' names. Where there is no list, and no name ends in a number, none is known.
pub(super) fn labelled(folder: &Path, labels: Option<&[String]>) -> anyhow::Result<Vec<Labelled>> {
    if let Some(classes) = Classes::list(folder)? {
        let numbers = classes.numbers(labels).with_context(|| folder.display().to_string())?;
        let numbered = |(path, class): (PathBuf, usize)| (path, Some(numbers[class]));
        return Ok(classes.pictures.into_iter().map(numbered).collect());
    }
    let pictures = picture::of_folder(folder)?;
    let list = folder.join("labels.csv");
    let known = match std::fs::read_to_string(&list) {
        Ok(text) => Some(classes(&text).with_context(|| list.display().to_string())?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).context(list.display().to_string()),
    };
    let numbered =
        |path: &PathBuf| last_number(&path.file_name().unwrap_or_default().to_string_lossy());
    if known.is_none() && pictures.iter().all(|path| numbered(path).is_none()) {
        return Ok(pictures.into_iter().map(|path| (path, None)).collect());
    }
    let class = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let class = match &known {
            Some(known) => known.get(&*name).copied().with_context(|| {
                format!("{}: no line for the picture {name}", list.display())
            })?,
            None => numbered(&path).with_context(|| {
                format!(
                    "{}: expected a name with its class as the last number, as cat_281.jpg, or a file {}",
                    path.display(),
                    list.display()
                )
            })?,
        };
        Ok((path, Some(class)))
    };
    pictures.into_iter().map(class).collect()
}

/// The lines `PICTURE,CLASS` of a list.
fn classes(text: &str) -> anyhow::Result<HashMap<String, usize>> {
    let class = |(number, line): (usize, &str)| {
        let parsed = line
            .rsplit_once(',')
            .and_then(|(name, class)| Some((name.trim().to_owned(), class.trim().parse().ok()?)));
        parsed.with_context(|| {
            format!("line {}: expected PICTURE,CLASS, as cat.jpg,281, got {line:?}", number + 1)
        })
    };
    // What some programs put before a text.
    let text = text.trim_start_matches('\u{feff}');
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(class).collect()
}

/// The number that a name without its extension ends in.
fn last_number(name: &str) -> Option<usize> {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let digits = stem.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    stem[digits..].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_come_from_names_and_lists() {
        assert_eq!(last_number("imagenet_03_990.jpg"), Some(990));
        assert_eq!(last_number("7.png"), Some(7));
        assert_eq!(last_number("cat.png"), None);
        assert_eq!(last_number("cat_12b.png"), None);
        let list = classes("cat.jpg,281\n\n a, b.png , 3\n").unwrap();
        assert_eq!((list["cat.jpg"], list["a, b.png"]), (281, 3));
        assert_eq!(classes("\u{feff}cat.jpg,281\n").unwrap()["cat.jpg"], 281);
        let error = classes("cat.jpg,281\ncat.jpg").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
