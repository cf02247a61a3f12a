"""What runs left behind, as rows, tables and pages."""
