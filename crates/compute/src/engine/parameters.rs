//! Which parameters an operator may set.

use std::collections::BTreeMap;

/// A parameter that nobody may change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pinned {
    pub name: &'static str,
    /// `None`: computed for each cluster, or the engine's own default.
    pub value: Option<&'static str>,
    pub reason: &'static str,
}

pub(crate) const fn pinned(name: &'static str, value: Option<&'static str>, reason: &'static str) -> Pinned {
    Pinned { name, value, reason }
}

/// A parameter that is refused.
#[derive(Debug, thiserror::Error)]
pub enum ParameterError {
    /// It is pinned.
    #[error("{name} cannot be set: {reason}")]
    Pinned {
        /// The parameter.
        name: String,
        /// Why, and what to do instead.
        reason: &'static str,
    },
    /// It is no name at all.
    #[error("{0:?} is not the name of an engine's parameter")]
    BadName(String),
    /// The engine itself refuses it.
    #[error("{engine} refuses {name}={value}: {message}")]
    Refused {
        /// The engine and its series.
        engine: String,
        /// The parameter.
        name: String,
        /// The value.
        value: String,
        /// The engine's words.
        message: String,
    },
}

/// Refuses names that are none and pinned ones. `spelling` makes of a given name the engine's own.
pub(crate) fn check(
    given: &BTreeMap<String, String>,
    pinned: &[Pinned],
    spelling: impl Fn(&str) -> String,
) -> Result<BTreeMap<String, String>, ParameterError> {
    let mut checked = BTreeMap::new();
    for (given, value) in given {
        let name = spelling(given.trim());
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if name.is_empty() || !name.chars().all(fits) || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(ParameterError::BadName(given.clone()));
        }
        if let Some(pinned) = pinned.iter().find(|pinned| pinned.name == name) {
            return Err(ParameterError::Pinned { name, reason: pinned.reason });
        }
        checked.insert(name, value.clone());
    }
    Ok(checked)
}

/// What a server is started with, in the order of the command line, where the last one counts: chosen ones that the
/// operator did not set, the operator's, the pinned ones.
pub(crate) fn in_order<'a>(
    chosen: impl Iterator<Item = (&'a str, &'a str)> + 'a,
    given: &'a BTreeMap<String, String>,
    pinned: &'a [Pinned],
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let chosen = chosen.filter(|(name, _)| !given.contains_key(*name));
    let given = given.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    chosen.chain(given).chain(pinned.iter().filter_map(|pinned| Some((pinned.name, pinned.value?))))
}
