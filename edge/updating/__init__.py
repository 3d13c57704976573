"""One update, from what is signed to what runs: the process that carries it out, and the steps that it takes."""
