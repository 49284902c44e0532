"""How near a precision's answers are to a reference's: samples, figures of tasks, and who measures them."""
