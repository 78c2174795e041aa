"""What runs in a guest for programs of its host (docs/agent.md), from the host's side. The guest is hostile: each frame
is bounded, each answer checked, and nothing of the host is named by it."""
