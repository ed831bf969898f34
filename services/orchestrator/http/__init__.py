"""HTTP below the routes: authentication, limits, bodies, errors, disclosure and connections."""
