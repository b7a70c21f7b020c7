//! zorya-redo
