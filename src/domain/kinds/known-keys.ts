import { z } from 'zod'

/** The keys that a schema knows at a path; none where it takes any, or nothing with keys. Read from the schema, so no kind lists them again. */
export function keysOfSchema(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  const at = descend(schema, path)
  return at instanceof z.ZodObject ? Object.keys(at.shape as object) : []
}

function descend(schema: z.core.$ZodType, path: readonly PropertyKey[]): z.core.$ZodType | null {
  let at: z.core.$ZodType = bare(schema)
  for (const part of path) {
    if (at instanceof z.ZodObject) {
      const shape = at.shape as Record<string, z.core.$ZodType>
      const next = Object.hasOwn(shape, String(part)) ? shape[String(part)] : undefined
      if (!next) return null
      at = bare(next)
    } else if (at instanceof z.ZodArray) at = bare(at.element)
    else if (at instanceof z.ZodRecord) at = bare(at.valueType)
    else return null
  }
  return at
}

/** The schema behind what makes it optional, gives it a default or changes the value on the way; of a choice the one that has keys. */
function bare(schema: z.core.$ZodType): z.core.$ZodType {
  for (let at = schema; ;) {
    if (at instanceof z.ZodOptional || at instanceof z.ZodNullable || at instanceof z.ZodDefault) at = at.unwrap()
    else if (at instanceof z.ZodPipe) at = at.in instanceof z.ZodTransform ? at.out : at.in
    else if (at instanceof z.ZodUnion) {
      const withKeys = at.options.map(bare).find((option) => option instanceof z.ZodObject)
      return withKeys ?? at
    } else return at
  }
}
