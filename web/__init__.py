"""HTTP: admin REST, data plane and problem details, over what `runtime` offers."""
