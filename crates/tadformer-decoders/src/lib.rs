//! tadformer-decoders
