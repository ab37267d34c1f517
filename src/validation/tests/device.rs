//! Whole devices: the three verdicts, Phase I, what sensors do wrong.
