//! zorya-sim
