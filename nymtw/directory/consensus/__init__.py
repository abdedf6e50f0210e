"""The signed topology: made by one directory, or voted on and signed by several."""
