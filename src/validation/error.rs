//! What can be wrong with the settings, limits or state a validator is built from.
//!
//! Bad data is never an error here: it is a [`Verdict`](super::Verdict).

/// Why a validator could not be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ValidationError {
    /// There must be one override a tag, or none at all.
    #[error(
        "{overrides} tag overrides were given for {tags} tags: give one a tag in tag order, or none"
    )]
    OverrideCount {
        /// Tags of the device.
        tags: usize,
        /// Overrides given.
        overrides: usize,
    },
    /// The settings of a tag contradict each other.
    #[error("validation of tag {tag} cannot be set up: {reason}")]
    Settings {
        /// Name of the tag.
        tag: String,
        /// What contradicts what, and what to do.
        reason: String,
    },
    /// A limits document is not one.
    #[error("limits cannot be read: {0}")]
    Limits(String),
    /// State bytes do not belong to these settings and limits.
    #[error(
        "chart state cannot be restored: {0}; it needs the settings and limits it was taken under"
    )]
    State(String),
}
