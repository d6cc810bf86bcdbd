//! Harness, tour, matrix, inventories.
