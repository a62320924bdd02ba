"""Who may have what, and how much at once. This room only ever says no."""
