"""Tables, curves, pictures and the page that holds them: the one room that draws."""
