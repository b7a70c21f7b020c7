//! zorya-volume
