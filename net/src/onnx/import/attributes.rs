//! The attributes of a node, checked, and the reasons why a node is not converted.

// Counts and sizes here are strangers'.
#![warn(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]

use crate::Error;
use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, attribute_type};
use std::cell::RefCell;
use std::collections::HashMap;

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
    /// By the names that the node gives them.
    list: Vec<(&'a str, &'a AttributeProto)>,
    read: RefCell<Vec<&'a str>>,
}

impl<'a> Attributes<'a> {
    /// The attributes of a node; `given` are those of the call, for a node of a function.
    pub(crate) fn new(node: &'a NodeProto, given: &HashMap<&'a str, &'a AttributeProto>) -> Self {
        let resolved = |attribute: &'a AttributeProto| {
            let name = attribute.name.as_str();
            match attribute.ref_attr_name.as_str() {
                "" => Some((name, attribute)),
                reference => given.get(reference).map(|&given| (name, given)),
            }
        };
        let list = node.attribute.iter().filter_map(resolved).collect();
        Self { list, read: RefCell::new(Vec::new()) }
    }

    /// All attributes, for a function whose nodes refer to them.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'a str, &'a AttributeProto)> {
        self.list.iter().copied()
    }

    fn find(&self, name: &'a str, kind: i32) -> Converted<Option<&'a AttributeProto>> {
        self.ignore(&[name]);
        let Some(&(_, found)) = self.list.iter().find(|(own, _)| *own == name) else {
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
        self.list.iter().map(|(name, _)| *name).find(|name| !read.contains(name))
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

    /// A graph, which must be there.
    pub(crate) fn graph(&self, name: &'a str) -> Converted<&'a GraphProto> {
        let found = self.find(name, attribute_type::GRAPH)?.and_then(|found| found.g.as_ref());
        found.ok_or_else(|| Error::invalid(name, "a graph", "none").into())
    }

    /// Strings.
    pub(crate) fn strings(&self, name: &'a str) -> Converted<Option<Vec<&'a str>>> {
        let Some(found) = self.find(name, attribute_type::STRINGS)? else { return Ok(None) };
        let text = |bytes: &'a Vec<u8>| std::str::from_utf8(bytes).ok();
        let texts: Option<Vec<&str>> = found.strings.iter().map(text).collect();
        texts.map(Some).ok_or_else(|| Error::invalid(name, "UTF-8", "other bytes").into())
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
