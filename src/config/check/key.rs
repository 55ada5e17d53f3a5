//! A key of a check: set by the check or by a default.

use crate::config::source::At;
use crate::config::value::{Located, NamedValue, TomlTable, TomlValue};

/// The value of a key, in one place or after all places are merged.
#[derive(Clone, Debug, Default)]
pub(super) enum CheckKey<'s, T> {
    /// It is not set.
    #[default]
    Unset,
    /// It is set to a wrong value, which has been reported.
    Wrong,
    /// It is set to this value.
    Set(Located<'s, T>),
}

impl<'s, T: Clone> CheckKey<'s, T> {
    pub(super) fn read(
        table: &mut TomlTable<'s>,
        name: &'static str,
        convert: impl FnOnce(TomlValue<'s>) -> Option<T>,
    ) -> Self {
        let Some(NamedValue { value, .. }) = table.get(name) else { return Self::Unset };
        convert(value).map_or(Self::Wrong, |read| Self::here(read, value.at))
    }

    /// A key that is set at this location.
    pub(super) fn here(value: T, at: At<'s>) -> Self {
        Self::Set(Located { value, at, inherited: false })
    }

    /// The own value if it is set, even if it is wrong: then the default was not meant.
    pub(super) fn or_default(self, default: &Self) -> Self {
        match (self, default) {
            (Self::Unset, Self::Set(default)) => Self::Set(Located { inherited: true, ..default.clone() }),
            (Self::Unset, Self::Wrong) => Self::Wrong,
            (own, _) => own,
        }
    }

    /// The value with its location, if it is set and valid.
    pub(super) fn set(&self) -> Option<&Located<'s, T>> {
        if let Self::Set(set) = self { Some(set) } else { None }
    }

    /// The value, if it is set and valid.
    pub(super) fn value(&self) -> Option<T> {
        self.set().map(|set| set.value.clone())
    }

    /// The value, or the built-in one; but not the built-in one if the key may have been misspelt.
    pub(super) fn or_likely(&self, built_in: T, faulty: bool) -> Option<T> {
        self.or_built_in(built_in).filter(|_| !faulty || self.set().is_some())
    }

    /// The value, or the built-in one; none if the value is wrong.
    pub(super) fn or_built_in(&self, built_in: T) -> Option<T> {
        match self {
            Self::Unset => Some(built_in),
            Self::Wrong => None,
            Self::Set(set) => Some(set.value.clone()),
        }
    }
}

/// Reports that a key contradicts another key or its built-in value. The location is the key that the check
/// itself sets.
pub(super) fn contradiction<K, O>(
    (name, key): (&str, &Located<'_, K>),
    (other_name, other): (&str, Option<&Located<'_, O>>),
    message: String,
) {
    match other {
        Some(other) if key.inherited && !other.inherited => {
            other.at.error_beside(message, key.at, &format!("`{name}` is set here"));
        }
        Some(other) => key.at.error_beside(message, other.at, &format!("`{other_name}` is set here")),
        None => key.at.error(message),
    }
}
