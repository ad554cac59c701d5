"""Can the label be told without looking at the lungs? Measured on a catalogue, judged by written rules."""
