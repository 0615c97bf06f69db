"""Generated images: a prior and a refiner, guided by what was decoded."""
