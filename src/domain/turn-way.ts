import type { Json } from '../base/json.ts'
import { indexOf, type Step } from './step.ts'

/** Which turn of each step came last on the way to a turn: node number to index. A turn keeps it as its item. */
export type Way = Record<string, number>

/** The way that led to a turn. */
export function wayOf(item: Json): Way {
  if (typeof item !== 'object' || item === null || Array.isArray(item)) return {}
  return Object.fromEntries(
    Object.entries(item).filter((entry): entry is [string, number] => typeof entry[1] === 'number'),
  )
}

/** The way to what follows a turn. */
export const wayTo = ({ node, path, item }: Pick<Step, 'node' | 'path' | 'item'>): Way => ({
  ...wayOf(item),
  [node]: indexOf(path),
})
