"""A process beside llama.cpp that decides what stays in RAM: it holds, lets go, and reads ahead."""
