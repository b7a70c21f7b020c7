//! zorya-compute
