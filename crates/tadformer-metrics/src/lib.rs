//! tadformer-metrics
