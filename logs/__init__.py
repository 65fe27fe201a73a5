"""The log side: record formats, the staged pump, readers and followers."""
