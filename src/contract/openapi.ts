import { z } from 'zod'
import type { Json, JsonObject } from '../base/json.ts'
import { ROUTES, type Route } from './routes.ts'
import { ProblemSchema } from './schemas.ts'

/** The OpenAPI 3.1 document, made from the routes; the same routes give the same text. */
export function makeOpenApi(version: string): JsonObject {
  const paths: Record<string, JsonObject> = {}
  const schemas: JsonObject = {}
  for (const route of ROUTES) {
    const item = (paths[route.path] ??= {})
    item[route.method.toLowerCase()] = operationOf(route, schemas)
  }
  takeSchema(ProblemSchema, schemas)
  return {
    openapi: '3.1.1',
    info: { title: 'Orrery', version, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
    paths,
    components: { schemas, securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
  }
}

function operationOf(route: Route, schemas: JsonObject): JsonObject {
  const responses: Record<string, JsonObject> = {}
  for (const answer of route.responses) {
    const found = (responses[answer.status] ??= { description: answer.description, content: {} })
    const content = found['content'] as JsonObject // made one line above
    if (answer.type === undefined) continue
    content[answer.type] = {
      schema: answer.schema
        ? takeSchema(answer.schema, schemas)
        : { type: answer.type === 'application/json' ? 'object' : 'string' },
    }
  }
  const problem = { 'application/problem+json': { schema: { $ref: '#/components/schemas/ProblemDetails' } } }
  // A status that is described by itself hides the default, and may be our own refusal all the same.
  for (const [status, found] of Object.entries(responses))
    if (Number(status) >= 400) found['content'] = { ...(found['content'] as JsonObject), ...problem }
  responses['default'] = { description: 'A failure; its code is in the catalogue.', content: problem }
  const parameters = parametersOf(route, schemas)
  const body = route.body ?? route.message
  return {
    operationId: route.id,
    summary: route.summary,
    security: route.auth === 'none' ? [] : [{ token: [] }],
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(route.manifest
      ? {
          requestBody: {
            required: true,
            content: {
              'application/yaml': { schema: { type: 'string' } },
              'application/json': { schema: takeSchema(route.manifest, schemas) },
            },
          },
        }
      : {}),
    ...(body
      ? {
          requestBody: {
            required: true,
            content: { 'application/json': { schema: takeSchema(body, schemas) } },
          },
        }
      : {}),
    responses,
  }
}

function parametersOf(route: Route, schemas: JsonObject): Json[] {
  const parameters: Json[] = []
  for (const [, name] of route.path.matchAll(/\{(\w+)\}/g))
    parameters.push({ name: name ?? '', in: 'path', required: true, schema: { type: 'string' } })
  if (route.query) {
    const query = takeSchema(route.query, schemas)
    const required = (query['required'] ?? []) as string[]
    for (const [name, schema] of Object.entries((query['properties'] ?? {}) as JsonObject))
      parameters.push({ name, in: 'query', ...(required.includes(name) ? { required: true } : {}), schema })
  }
  for (const [name, description] of Object.entries(route.headers ?? {}))
    parameters.push({ name, in: 'header', description, schema: { type: 'string' } })
  return parameters
}

/** The JSON Schema; named parts move to the components. */
function takeSchema(schema: z.ZodType, schemas: JsonObject): JsonObject {
  // As input also for answers: closed objects there would forbid what a later version adds.
  const made = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' })
  const text = JSON.stringify(made).replaceAll('"#/$defs/', '"#/components/schemas/')
  const { $schema: _, $defs, ...rest } = JSON.parse(text) as JsonObject
  for (const [name, part] of Object.entries(($defs ?? {}) as JsonObject)) schemas[name] = withoutId(part)
  const id = rest['id']
  if (typeof id !== 'string') return rest
  schemas[id] = withoutId(rest)
  return { $ref: `#/components/schemas/${id}` }
}

function withoutId(schema: Json): Json {
  if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) return schema
  const { id: _, $schema: __, ...rest } = schema
  return rest
}
