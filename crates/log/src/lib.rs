//! zorya-log
