"""Reading files of any kind item by item; writing whole files or nothing."""
