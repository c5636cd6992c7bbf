//! The attributes of a node, checked, and the reasons why a node is not converted.

use crate::Error;
use crate::onnx::proto::{AttributeProto, NodeProto, TensorProto, attribute_type};
use std::cell::RefCell;

/// The reason why a node was not converted.
pub(crate) enum Refusal {
    /// The operator is not known.
    Operator,
    /// The operator is known, but not this use of it.
    Use(String),
    /// The node is wrong.
    Wrong(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Wrong(error)
    }
}

impl From<dsconv::Error> for Refusal {
    fn from(error: dsconv::Error) -> Self {
        Self::Wrong(error.into())
    }
}

pub(crate) type Converted<T = ()> = Result<T, Refusal>;

/// A refusal with a reason.
pub(crate) fn refuse<T>(reason: impl Into<String>) -> Converted<T> {
    Err(Refusal::Use(reason.into()))
}

/// The attributes of a node. It remembers which were read: one that nobody read may change the meaning.
pub(crate) struct Attributes<'a> {
    list: &'a [AttributeProto],
    read: RefCell<Vec<&'a str>>,
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(node: &'a NodeProto) -> Self {
        Self { list: &node.attribute, read: RefCell::new(Vec::new()) }
    }

    fn find(&self, name: &'a str, kind: i32) -> Converted<Option<&'a AttributeProto>> {
        self.ignore(&[name]);
        let Some(found) = self.list.iter().find(|attribute| attribute.name == name) else {
            return Ok(None);
        };
        if found.r#type != kind && found.r#type != 0 {
            let expected = format!("attribute type {kind}");
            return Err(Error::invalid(name, expected, found.r#type).into());
        }
        Ok(Some(found))
    }

    /// Attributes that make no difference.
    pub(crate) fn ignore(&self, names: &[&'a str]) {
        self.read.borrow_mut().extend(names);
    }

    /// The first attribute that was not read.
    pub(crate) fn unread(&self) -> Option<&'a str> {
        let read = self.read.borrow();
        self.list.iter().map(|a| a.name.as_str()).find(|name| !read.contains(name))
    }

    pub(crate) fn int(&self, name: &'a str) -> Converted<Option<i64>> {
        Ok(self.find(name, attribute_type::INT)?.map(|found| found.i))
    }

    pub(crate) fn flag(&self, name: &'a str) -> Converted<bool> {
        Ok(self.int(name)?.unwrap_or(0) != 0)
    }

    pub(crate) fn float(&self, name: &'a str) -> Converted<Option<f32>> {
        let value = self.find(name, attribute_type::FLOAT)?.map(|found| found.f);
        match value {
            Some(value) if !value.is_finite() => {
                Err(Error::invalid(name, "a finite number", value).into())
            }
            value => Ok(value),
        }
    }

    pub(crate) fn ints(&self, name: &'a str) -> Converted<Option<&'a [i64]>> {
        Ok(self.find(name, attribute_type::INTS)?.map(|found| found.ints.as_slice()))
    }

    pub(crate) fn floats(&self, name: &'a str) -> Converted<Option<&'a [f32]>> {
        Ok(self.find(name, attribute_type::FLOATS)?.map(|found| found.floats.as_slice()))
    }

    pub(crate) fn tensor(&self, name: &'a str) -> Converted<Option<&'a TensorProto>> {
        Ok(self.find(name, attribute_type::TENSOR)?.and_then(|found| found.t.as_ref()))
    }

    /// A string; the default where it is missing.
    pub(crate) fn string(&self, name: &'a str, default: &'a str) -> Converted<&'a str> {
        let Some(found) = self.find(name, attribute_type::STRING)? else { return Ok(default) };
        std::str::from_utf8(&found.s)
            .map_err(|_| Error::invalid(name, "UTF-8", format!("{:?}", found.s)).into())
    }

    /// Refuses an attribute that is set to something.
    pub(crate) fn unset(&self, name: &'a str) -> Converted {
        if self.flag(name)? {
            return refuse(format!("attribute {name}"));
        }
        Ok(())
    }

    /// Non-negative integers, a fixed number of them.
    pub(crate) fn sizes<const N: usize>(&self, name: &'a str, default: u32) -> Converted<[u32; N]> {
        let Some(ints) = self.ints(name)? else { return Ok([default; N]) };
        let numbers: Option<Vec<u32>> = ints.iter().map(|&i| u32::try_from(i).ok()).collect();
        let numbers: Option<[u32; N]> = numbers.and_then(|numbers| numbers.try_into().ok());
        numbers.ok_or_else(|| {
            Error::invalid(name, format!("{N} numbers of 0 or more"), format!("{ints:?}")).into()
        })
    }
}
