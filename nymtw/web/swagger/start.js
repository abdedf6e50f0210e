// Swagger UI, shown the description beside it and no other.
SwaggerUIBundle({ url: "doc.json", dom_id: "#swagger-ui", deepLinking: true, queryConfigEnabled: false, validatorUrl: null });
