"""Tables, figures and the page of a run; nothing here measures."""
