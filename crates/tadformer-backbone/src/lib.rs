//! tadformer-backbone
