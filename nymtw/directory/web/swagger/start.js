// Swagger UI, shown this directory's own description and no other.
SwaggerUIBundle({ url: "/swagger/doc.json", dom_id: "#swagger-ui", deepLinking: true, queryConfigEnabled: false, validatorUrl: null });
