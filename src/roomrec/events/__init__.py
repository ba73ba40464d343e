"""The event contract: schema, validation, Parquet and the sources of public logs."""
