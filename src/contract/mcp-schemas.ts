import { z } from 'zod'

/** A request of the Model Context Protocol, or a notification, which has no id. */
export const JsonRpcMessageSchema = z
  .looseObject({
    jsonrpc: z.literal('2.0'),
    id: z.union([z.string(), z.int()]).optional(),
    method: z.string().min(1).describe('As the revision of the protocol names it, such as `tools/list`.'),
    params: z.looseObject({}).optional(),
  })
  .meta({ id: 'JsonRpcMessage' })

/** A refusal in the words of the protocol. */
export const JsonRpcErrorSchema = z
  .looseObject({
    jsonrpc: z.literal('2.0'),
    id: z.union([z.string(), z.int(), z.null()]).optional(),
    error: z.looseObject({ code: z.int(), message: z.string() }),
  })
  .meta({ id: 'JsonRpcError' })
