"""The areas of an audit, a module each: from what was answered to checks."""
