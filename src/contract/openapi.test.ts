import { expect, test } from 'vitest'
import { makeOpenApi } from './openapi.ts'
import { ROUTES } from './routes.ts'

test('every route is described, and every reference leads somewhere', () => {
  const document = makeOpenApi('1.2.3')
  const paths = document['paths'] as Record<string, Record<string, unknown>>
  for (const route of ROUTES)
    expect(paths[route.path]?.[route.method.toLowerCase()]).toMatchObject({ operationId: route.id })
  const schemas = (document['components'] as { schemas: Record<string, unknown> }).schemas
  const text = JSON.stringify(document)
  for (const [, name] of text.matchAll(/"#\/components\/schemas\/(\w+)"/g)) expect(schemas).toHaveProperty(name ?? '')
  expect(text).not.toContain('$defs')
  expect(JSON.stringify(makeOpenApi('1.2.3'))).toBe(text)
})

test('what another protocol refuses is described in its own words, beside what is refused before it is asked', () => {
  const paths = makeOpenApi('1.2.3')['paths'] as Record<string, Record<string, Record<string, unknown>>>
  const content = {
    'application/json': { schema: { $ref: '#/components/schemas/JsonRpcError' } },
    'application/problem+json': { schema: { $ref: '#/components/schemas/ProblemDetails' } },
  }
  expect(paths['/mcp']?.['post']).toMatchObject({
    requestBody: { content: { 'application/json': { schema: { $ref: '#/components/schemas/JsonRpcMessage' } } } },
    responses: { 400: { content }, 406: { content }, 415: { content } },
  })
})
