"""The method on plain arrays; knows neither AnnData nor MuData."""
