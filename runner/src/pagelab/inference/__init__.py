"""llama.cpp: its build and call, its log, and its process, which the lab starts and watches."""
