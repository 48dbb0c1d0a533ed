import type { CallToolResult } from '@modelcontextprotocol/client'
import type { Json, JsonObject } from '../../base/json.ts'

/** What a call gave, as JSON: what is structured first, one text as it is, and of several parts the texts with what else there was, described. */
export function outputOf({ structuredContent, content }: Pick<CallToolResult, 'structuredContent' | 'content'>): Json {
  // It came as JSON over the wire.
  if (structuredContent !== undefined) return structuredContent as Json
  const [only] = content
  if (content.length === 1 && only?.type === 'text') return only.text
  return content.map(describePart)
}

/** The texts alone: what a failed call says of itself. */
export const textOfContent = (content: CallToolResult['content']): string =>
  content.flatMap((part) => (part.type === 'text' ? [part.text] : [])).join('\n')

const sizeOfBase64 = (data: string): number => Buffer.byteLength(data, 'base64')

/** Data that no model reads here is said to be there: a picture of a megabyte would be a million signs of nothing. */
function describePart(part: CallToolResult['content'][number]): JsonObject {
  switch (part.type) {
    case 'text':
      return { type: 'text', text: part.text }
    case 'image':
    case 'audio':
      return { type: part.type, mimeType: part.mimeType, bytes: sizeOfBase64(part.data), omitted: true }
    case 'resource_link':
      return {
        type: 'resource_link',
        uri: part.uri,
        name: part.name,
        ...(part.description === undefined ? {} : { description: part.description }),
        ...(part.mimeType === undefined ? {} : { mimeType: part.mimeType }),
      }
    case 'resource': {
      const { resource } = part
      const about = {
        type: 'resource',
        uri: resource.uri,
        ...(resource.mimeType ? { mimeType: resource.mimeType } : {}),
      }
      return 'text' in resource
        ? { ...about, text: resource.text }
        : { ...about, bytes: sizeOfBase64(resource.blob), omitted: true }
    }
  }
}
