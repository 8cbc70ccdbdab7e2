"""What docs/performance.md is made of: each module measures one thing, and says what was found."""
