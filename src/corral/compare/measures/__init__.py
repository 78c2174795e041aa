"""What is measured. A measure takes one sample of one contender at a time; the schedule takes turns."""
