//! Folders of classes: a folder of pictures for each class, whose name is the class's.

use crate::picture;
use anyhow::{Context, ensure};
use std::path::{Path, PathBuf};

/// Classes, and pictures of each.
pub(crate) struct Classes {
    /// The folders' names, as numbers where all are, else in the order of text.
    pub(crate) names: Vec<String>,
    /// Pictures with their class's place among the names, class by class.
    pub(crate) pictures: Vec<(PathBuf, usize)>,
}

impl Classes {
    /// Lists the classes of a folder; `None` where it holds no folders, or pictures of its own.
    ///
    /// # Errors
    /// A failure of the file system, or a class without pictures.
    pub(crate) fn list(folder: &Path) -> anyhow::Result<Option<Self>> {
        let mut classes = folders(folder)?;
        if classes.is_empty() || !picture::files_in(folder, &picture::EXTENSIONS)?.is_empty() {
            return Ok(None);
        }
        classes.sort();
        if classes.iter().all(|(name, _)| number_of(name).is_some()) {
            classes.sort_by_key(|(name, _)| number_of(name));
        }
        let mut pictures = Vec::new();
        for (class, (name, path)) in classes.iter().enumerate() {
            let paths = picture::of_folder(path).with_context(|| {
                format!("the class {name} has no pictures; add some, or remove its folder")
            })?;
            pictures.extend(paths.into_iter().map(|path| (path, class)));
        }
        Ok(Some(Self { names: classes.into_iter().map(|(name, _)| name).collect(), pictures }))
    }

    /// The number that a network with these labels gives each class. Without labels it is the folder's name, where all
    /// are numbers, else the place in the order of the names.
    ///
    /// # Errors
    /// A name that is no label.
    pub(crate) fn numbers(&self, labels: Option<&[String]>) -> anyhow::Result<Vec<usize>> {
        let numbered = self.names.iter().all(|name| number_of(name).is_some());
        let number = |(place, name): (usize, &String)| {
            match labels {
            Some(labels) => labels.iter().position(|label| label == name).with_context(|| {
                let some: Vec<&str> = labels.iter().take(5).map(String::as_str).collect();
                format!(
                    "the class {name} is none of the network's {} labels, such as {some:?}; give its folder the name \
                     of a label",
                    labels.len()
                )
            }),
            None => Ok(number_of(name).filter(|_| numbered).unwrap_or(place)),
        }
        };
        let numbers = self.names.iter().enumerate().map(number);
        let numbers = numbers.collect::<anyhow::Result<Vec<usize>>>()?;
        for (place, number) in numbers.iter().enumerate() {
            let other = numbers.iter().position(|other| other == number).unwrap_or(place);
            ensure!(
                other == place,
                "the folders {} and {} are the same class, {number}",
                self.names[other],
                self.names[place]
            );
        }
        Ok(numbers)
    }
}

/// The number that a class's name is.
fn number_of(name: &str) -> Option<usize> {
    name.parse().ok()
}

/// The folders in a folder with their names, but for hidden ones.
fn folders(folder: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let in_folder = || folder.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(in_folder)? {
        let entry = entry.with_context(in_folder)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Of what a link leads to.
        if entry.path().is_dir() && !name.starts_with('.') {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files in it, which are empty.
    fn folder(name: &str, files: &[&str]) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("dsconv-{}-{name}", std::process::id()));
        for file in files {
            let path = folder.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    fn listed(name: &str, files: &[&str]) -> anyhow::Result<Option<Classes>> {
        let folder = folder(name, files);
        let listed = Classes::list(&folder);
        std::fs::remove_dir_all(folder).unwrap();
        listed
    }

    #[test]
    fn names_are_in_the_order_of_numbers_or_of_text() {
        let files = ["10/a.png", "9/b.jpg", "9/a.png", "9/notes.txt", ".git/x.png"];
        let classes = listed("numbers", &files).unwrap().unwrap();
        assert_eq!(classes.names, ["9", "10"]);
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let names: Vec<_> =
            classes.pictures.iter().map(|(path, class)| (name(path), *class)).collect();
        assert_eq!(names, [("a.png".into(), 0), ("b.jpg".into(), 0), ("a.png".into(), 1)]);
        assert_eq!(classes.numbers(None).unwrap(), [9, 10]);
        let classes = listed("text", &["dog/a.png", "10/a.png", "cat/a.png"]).unwrap().unwrap();
        assert_eq!(classes.names, ["10", "cat", "dog"]);
        let labels = ["dog", "10", "cat", "cow"].map(String::from);
        assert_eq!(classes.numbers(Some(&labels)).unwrap(), [1, 2, 0]);
        let error = classes.numbers(Some(&labels[..2])).unwrap_err().to_string();
        assert!(error.contains("the class cat"), "{error}");
        // 10 is one of three names, of which two are no numbers.
        assert_eq!(classes.numbers(None).unwrap(), [0, 1, 2]);
    }

    #[test]
    fn other_folders_have_no_classes() {
        assert!(listed("pictures", &["a.png", "more/b.png"]).unwrap().is_none());
        assert!(listed("nothing", &["a.txt"]).unwrap().is_none());
        let error = listed("empty", &["cat/a.png", "dog/a.txt"]).err().unwrap();
        assert!(error.to_string().contains("the class dog has no pictures"), "{error:#}");
        let twice = listed("twice", &["01/a.png", "1/a.png"]).unwrap().unwrap();
        assert!(twice.numbers(None).unwrap_err().to_string().contains("the same class, 1"));
    }
}
