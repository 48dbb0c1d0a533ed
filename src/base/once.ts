/**
 * What is loaded when it is first asked for, and then kept: `import()` looks its module up anew every time, which costs a call of a model a tenth of what is ours in
 * it. A load that failed is tried again.
 */
export function once<T>(load: () => Promise<T>): () => Promise<T> {
  let loading: Promise<T> | null = null
  return () => {
    loading ??= load().catch((error: unknown) => {
      loading = null
      throw error
    })
    return loading
  }
}
