//! What must hold for any batch.
