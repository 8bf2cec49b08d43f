//! tadformer
