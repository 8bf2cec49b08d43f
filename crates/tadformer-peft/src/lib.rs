//! tadformer-peft
