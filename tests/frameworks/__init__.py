"""Inside the frameworks that people have: mounted, with their routes, middleware and lifespans."""
