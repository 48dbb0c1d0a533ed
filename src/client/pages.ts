import type { Page } from '../contract/api-types.ts'

/** Every item of a list that comes in pages: `for await (const run of itemsOf((cursor) => client.listRuns({ cursor })))`. */
export async function* itemsOf<T>(
  read: (cursor: string | undefined) => Promise<Pick<Page<T>, 'items' | 'next'>>,
): AsyncIterable<T> {
  for (let cursor: string | null | undefined; cursor !== null;) {
    const page: Pick<Page<T>, 'items' | 'next'> = await read(cursor)
    yield* page.items
    cursor = page.next
  }
}
