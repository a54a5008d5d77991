"""Where experience comes from: one file per format, each from a file to conversations."""
