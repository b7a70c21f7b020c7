//! zorya-pages
