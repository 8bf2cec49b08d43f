//! TADFormer (CVPR 2025, arXiv 2501.04293): one frozen backbone, many dense tasks.

pub mod losses;
pub mod optim;
